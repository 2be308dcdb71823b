#!/bin/bash
# check_manual.sh SOURCE BUILD: every noun and verb of voldctl, and every flag of the daemons, is in the manual; every
# noun and verb is completed by bash; the manual pages have no errors.
# shellcheck source=tests/lib/check.sh
. "$(dirname "$0")/lib/check.sh"

# The names below "Subcommands:" of a help text.
subcommands() { "$build/bin/voldctl" "$@" --help | sed -n '/^Subcommands:/,$s/^  \([a-z][a-z-]*\) .*/\1/p;/^Subcommands:/,$s/^  \([a-z][a-z-]*\)$/\1/p'; }

# What the completion offers behind these words.
completed() {
	words=(voldctl "$@" "") cword=$(($# + 1)) cur=""
	COMPREPLY=()
	_voldctl
	printf '%s\n' "${COMPREPLY[@]}"
}
_init_completion() { :; }
_filedir() { :; }
compopt() { :; }
complete() { :; }
# Its functions have these as local variables; here they are the test's.
# shellcheck source=/dev/null
source <(sed 's/local cur prev words cword/local prev/' "$source/tools/completion/voldctl")

manual=$(sed 's/\\-/-/g' "$source/tools/man/voldctl.8" | sed 's/^\.[A-Z]* //')
nouns=$(subcommands)
[[ -n $nouns ]] || fail "voldctl --help names no noun"
for noun in $nouns; do
	grep -qx -- "$noun" <<<"$(completed)" || fail "$noun is not completed"
	verbs=$(subcommands "$noun")
	[[ -n $verbs ]] || grep -q -- "voldctl $noun" <<<"$manual" || fail "voldctl $noun is not in the manual"
	for verb in $verbs; do
		grep -qx -- "$verb" <<<"$(completed "$noun")" || fail "$noun $verb is not completed"
		grep -q -- "voldctl $noun $verb" <<<"$manual" || fail "voldctl $noun $verb is not in the manual"
	done
done
# Not a test that cannot fail: what is no verb is not offered.
! grep -qx nonsense <<<"$(completed volume)" || fail "the completion offers nonsense"

for daemon in voldmgmt voldbrick; do
	[[ -x $build/bin/$daemon ]] || continue
	page=$(sed 's/\\-/-/g' "$source/tools/man/$daemon.8")
	# gflags' own flags come after those of the program's main file.
	"$build/bin/$daemon" --helpshort | sed -n 's/^    -\([a-z_]*\) (.*/\1/p' >"$work/flags" || true
	[[ -s $work/flags ]] || fail "$daemon --helpshort names no flag"
	while read -r flag; do
		grep -q -- "--$flag" <<<"$page" || fail "$daemon --$flag is not in $daemon.8"
	done <"$work/flags"
done

for page in "$source"/tools/man/*.8; do
	if command -v mandoc >/dev/null; then
		mandoc -T lint -W error "$page" || fail "$page has errors"
	elif command -v groff >/dev/null; then
		said=$(groff -man -Tutf8 -ww -z "$page" 2>&1) || true
		[[ -z $said ]] || fail "$page: $said"
	fi
done
exit $failed
