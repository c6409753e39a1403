# Sourced by the scripts beside it: nothing that takes long works in silence.
progress_s=${PROGRESS_S:-10}

# with_progress STATE LOG COMMAND...: run a command, its output in LOG; every progress_s seconds,
# what the function STATE prints goes to standard error as one line, on a terminal and through a
# pipe alike.
with_progress() {
  local state=$1 log=$2 ticker status=0
  shift 2
  tick "$state" &
  ticker=$!
  "$@" </dev/null >"$log" 2>&1 || status=$?
  kill "$ticker" 2>/dev/null || true
  wait "$ticker" 2>/dev/null || true
  return "$status"
}

tick() {
  local state=$1 start=$SECONDS text
  # It ends with the script, however that ends; the pause keeps no pipe of the script's open.
  while sleep "$progress_s" >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    text=$("$state") || true
    text=${text:-still at work}
    echo "halfscan: $((SECONDS - start)) s: ${text:0:140}" >&2
  done
}
