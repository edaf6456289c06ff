# shellcheck shell=bash
# How the scripts speak: one line a step with the time since the first of them began, and one clear
# sentence when they can't go on. Sourced, never run.

# Scripts call each other; all count from the start of the outermost.
export PODWRIGHT_STARTED="${PODWRIGHT_STARTED:-$(date +%s)}"

say() {
	local elapsed=$(($(date +%s) - PODWRIGHT_STARTED))
	printf '[%02d:%02d] %s\n' $((elapsed / 60)) $((elapsed % 60)) "$*" >&2
}

fail() {
	say "error: $*"
	exit 1
}

# quietly SENTENCE COMMAND...: runs the command and shows its output only when it fails.
quietly() {
	local sentence=$1 output
	shift
	output=$(mktemp)
	if ! "$@" >"$output" 2>&1; then
		tail -n 30 "$output" >&2
		rm -f "$output"
		fail "$sentence"
	fi
	rm -f "$output"
}

# wait_for SECONDS WHAT COMMAND...: polls the command four times a second, and says WHAT when it had to wait.
wait_for() {
	local seconds=$1 what=$2 deadline
	shift 2
	! "$@" >/dev/null 2>&1 || return 0
	deadline=$(($(date +%s) + seconds))
	until "$@" >/dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || return 1
		sleep 0.25
	done
	say "$what"
}
