"""``refreshd systemd-unit``: the unit that runs the daemon under systemd."""

import sys
from pathlib import Path

_UNIT = """\
# Installed by: refreshd systemd-unit | sudo tee /etc/systemd/system/refreshd.service
# Then:         sudo systemctl daemon-reload && sudo systemctl enable --now refreshd

[Unit]
Description=refreshd, owner of OAuth grants
Wants=network-online.target
After=network-online.target

[Service]
# With systemd before 253: Type=notify, and ExecReload=kill -HUP $MAINPID.
Type=notify-reload
NotifyAccess=main
ExecStart={program} serve --config /etc/refreshd/refreshd.toml --data-dir /var/lib/refreshd
# A configuration that is wrong (2) is not mended by starting again, nor is half of a backup (4).
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=2 4

# No answer of the event loop, or of what writes the ledgers, for so long: it is killed and
# started again. Nothing acknowledged is lost.
WatchdogSec=30
# A start tells by itself that it goes on; so does a stop, for as long as drain_grace_s says.
TimeoutStartSec=60
TimeoutStopSec=40
# SIGTERM goes to the daemon alone, which ends its nats-server last.
KillMode=mixed

# Secrets: each file is copied to where only this unit can read it. The configuration names
# it without a folder: client_secret_file = "google-secret".
#LoadCredential=google-secret:/etc/refreshd/google-secret
#LoadCredential=keyring.json:/etc/refreshd/keyring.json

DynamicUser=yes
StateDirectory=refreshd
StateDirectoryMode=0700
ConfigurationDirectory=refreshd
WorkingDirectory=/var/lib/refreshd
UMask=0077
LimitCORE=0
LimitNOFILE=65536

CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProcSubset=pid
PrivateDevices=yes
PrivateTmp=yes
PrivateUsers=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def unit(program: str) -> str:
    """Return the unit.

    Args:
        program: The absolute path of ``refreshd``.
    """
    return _UNIT.replace("{program}", program)


def systemd_unit() -> None:
    """Print a unit for systemd that runs this installation, hardened and watched."""
    print(unit(str(Path(sys.argv[0]).absolute())), end="")
