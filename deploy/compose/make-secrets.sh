#!/bin/sh
# Makes the secrets that docker-compose.yml mounts. What is there already stays, so it may run again.
# Usage: deploy/compose/make-secrets.sh [DIRECTORY]
set -eu
directory=${1:-$(dirname "$0")/secrets}

# Docker Compose mounts a secret with the owner and mode that its file has here, and every container
# runs as a user of its own: so the files are readable for all, inside a directory that only its
# owner may enter.
umask 022
mkdir -p "$directory"
chmod 700 "$directory"

random() { od -An -v -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { # NAME: writes standard input to the file, unless it is there
    if [ -e "$directory/$1" ]; then
        cat >/dev/null
        return
    fi
    cat >"$directory/$1.new"
    mv "$directory/$1.new" "$directory/$1"
    echo "made $directory/$1"
}

random | keep postgres_password
printf 'postgresql://gate:%s@postgres:5432/gate' "$(cat "$directory/postgres_password")" |
    keep database_url
random | keep broker_password
password=$(cat "$directory/broker_password")
printf 'redis://gate:%s@valkey:6379/0' "$password" | keep broker_url
# Without a password one may ask whether the broker lives, and nothing else. The password is kept as
# its hash; gate may do everything but administrate.
hash=$(printf '%s' "$password" | sha256sum | cut -d ' ' -f 1)
printf '%s\n' 'user default on nopass resetkeys resetchannels -@all +ping' \
    "user gate on #$hash ~* &* +@all -@admin" | keep broker_users.acl
random | keep grafana_admin_password
# Of others: the judge behind an endpoint, and what takes alerts. Empty until you have them.
for name in judge_api_key page_token ticket_token; do
    printf '' | keep "$name"
done
