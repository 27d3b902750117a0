#!/bin/sh
# Makes in ./secrets what is not there yet: a keyring, and passwords for NATS. Overwrites nothing.
set -eu
umask 077
mkdir -p secrets
drawn() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
if [ ! -e secrets/nats-password ]; then
  drawn > secrets/nats-password
  printf 'authorization { users: [ { user: refreshd, password: "%s" } ] }\n' \
    "$(cat secrets/nats-password)" > secrets/nats-users.conf
fi
if [ ! -e secrets/nats-routes.conf ]; then
  password=$(drawn)
  {
    printf 'authorization { user: route, password: "%s" }\n' "$password"
    printf 'routes: [\n'
    for host in ${NATS_HOSTS:-nats-1 nats-2 nats-3}; do
      printf '  "nats-route://route:%s@%s:6222"\n' "$password" "$host"
    done
    printf ']\n'
  } > secrets/nats-routes.conf
fi
if [ ! -e secrets/keyring.json ]; then
  printf '{"primary": "k-1", "keys": [{"id": "k-1", "key": "%s"}]}\n' \
    "$(head -c 32 /dev/urandom | base64)" > secrets/keyring.json
fi
[ -e secrets/google-secret ] || printf 'put the client secret here\n' > secrets/google-secret
echo "secrets/ is complete; back up secrets/keyring.json apart from the data"
