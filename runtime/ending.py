"""Why a daemon ends, known from the moment on that it is, and how it ends in its time."""

import asyncio
from typing import NamedTuple

import anyio

from actors.directory import Directory
from actors.world import SHUTTING_DOWN
from runtime.cluster.site import Site
from runtime.gateway.responder import Responder
from runtime.gateway.service import CommandService
from runtime.ledger.delivery import Delivery
from runtime.ledger.ledgers import Ledgers
from runtime.logs import log
from runtime.nats.link import NatsLink
from runtime.stop_budget import StopBudget


class DaemonError(Exception):
    """The daemon cannot start, or cannot go on; the text says why."""


class Parts(NamedTuple):
    """What has to come to an end."""

    directory: Directory
    service: CommandService
    responder: Responder
    ledgers: Ledgers
    delivery: Delivery
    site: Site


class Ending:
    """The end of one daemon."""

    def __init__(self, link: NatsLink, budget: StopBudget) -> None:
        """End nothing yet."""
        self._link = link
        self._budget = budget
        self._cannot_go_on = asyncio.Event()
        self._error: Exception | None = None

    @property
    def is_lost(self) -> bool:
        """Whether nothing can be stored any more."""
        return self._error is not None

    def because(self, error: Exception) -> None:
        """Note and tell why the daemon cannot go on; the first reason counts."""
        if self._error is None:
            self._error = error
            self._cannot_go_on.set()
            log.critical("cannot_go_on", cause=str(error))

    async def awaited(self, stop: asyncio.Event) -> None:
        """Return when ``stop`` is set, or the daemon cannot go on."""
        events = (stop, self._cannot_go_on, self._link.closed)
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
        if self._link.closed.is_set():
            self.because(DaemonError("the connection to NATS was closed for good"))

    def check(self) -> None:
        """Return where nothing but a stop has ended the daemon.

        Raises:
            DaemonError: The NATS connection was closed for good, or the embedded server died too
                often.
        """
        if self._error is not None:
            raise self._error

    async def drain(self, parts: Parts) -> None:
        """Give all partitions to the others; where there are none, answer what was taken.

        Takes as long as the budget allows. Where nothing can be stored the providers' answers are
        waited for, and that the daemon which owns their connections then has stored them.
        """
        directory, service, responder, ledgers, delivery, site = parts
        budget = self._budget
        budget.begin()
        if not self.is_lost:
            await site.leave(within_s=budget.flights_s)
        directory.refrain()
        with anyio.move_on_after(budget.flights_s):
            await service.stop_taking()
        with anyio.move_on_after(budget.flights_s if site.cluster.members.may_own else 0.0):
            await site.router.emptied()
        site.router.refuse_all(SHUTTING_DOWN)
        if not self.is_lost and not await directory.drain(budget.flights_s):
            log.error("drain_ran_out_of_time", busy_actors=directory.busy_actors)
        await directory.stop(at_once=self.is_lost, within_s=budget.flights_s)
        with anyio.move_on_after(budget.ending_s):
            if not self.is_lost:
                if not await ledgers.caught_up():
                    log.warning(
                        "views_lag_behind", consequence="the next start writes what they lack"
                    )
                await ledgers.release()
        with anyio.move_on_after(budget.ending_s):
            if not site.are_all_here:
                await delivery.done()
        with anyio.move_on_after(budget.ending_s) as scope:
            await responder.drained()
            await service.stop()
        if scope.cancelled_caught:
            log.error("answers_unsent", commands_in_flight=service.commands_in_flight)
