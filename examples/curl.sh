#!/bin/sh
# One session over HTTP, from creation to removal, on the supervisor's unix socket.
# Needs curl and a supervisor: prx-supervisor start --detach
#
#   examples/curl.sh [PROMPT]

set -eu

prompt=${1:-'!date'}
socket=${PRX_SOCKET:-${PRX_STATE_DIR:-${XDG_STATE_HOME:-$HOME/.local/state}/prx-supervisor}/api.sock}

api() {
  path=$1
  shift
  curl -sS --fail-with-body --unix-socket "$socket" \
    -H 'Content-Type: application/json' "$@" "http://prx/api/v1$path"
}

# The value of one text field of a JSON object on standard input; jq would do it as well.
field() {
  sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" | head -n 1
}

# The same key again returns the same session: a script that died may be run again.
session=$(api /sessions -d '{"name":"curl-example","idempotency_key":"curl-example"}' | field id)
echo "session $session"

text=$(printf '%s' "$prompt" | sed 's/[\\"]/\\&/g')
api "/sessions/$session/input" -d "{\"text\":\"$text\"}"
echo

# History first, then live, until the turn has ended. After a lost connection, go on behind the last
# id that was seen: add `since=SEQ`, or the header Last-Event-ID.
stream=$(mktemp -d)/events
mkfifo "$stream"
curl -sSN --unix-socket "$socket" -H 'Accept: text/event-stream' \
  "http://prx/api/v1/sessions/$session/events?types=model.completed,tool.completed,turn.completed" \
  >"$stream" &
reader=$!
while IFS= read -r line; do
  case $line in
    'event: turn.completed') break ;;
    data:*) printf '%s\n' "$line" ;;
  esac
done <"$stream"
kill "$reader" 2>/dev/null || true
rm -r "${stream%/*}"

api "/sessions/$session" -X DELETE
echo "removed $session"
