#!/bin/bash
# check_units.sh SOURCE BUILD: systemd itself reads the units, and understands every line of them; the tmpfiles and sysusers
# lines are done in a root of their own; and the daemons take the flags files that are installed.
# shellcheck source=tests/lib/check.sh
. "$(dirname "$0")/lib/check.sh"

for unit in voldbrick@.service voldmgmt.service; do
	[[ -e $build/$unit ]] || continue
	# A program that is not installed yet would be an error.
	sed -E "s#^ExecStart=[^ ]*/(vold[a-z]+)#ExecStart=$build/bin/\\1#" "$build/$unit" >"$work/${unit/@./@x.}"
	found=$(systemd-analyze verify --man=no --recursive-errors=no "$work/${unit/@./@x.}" 2>&1) || fail "$unit: verify failed"
	[[ -z $found ]] || fail "$unit: $found"
done

# A line that is not understood must not pass.
printf '[Service]\nExecStart=/bin/true\nNoSuchSetting=yes\n' >"$work/wrong.service"
found=$(systemd-analyze verify --man=no "$work/wrong.service" 2>&1) || true
[[ $found == *NoSuchSetting* ]] || fail "a wrong unit was not refused"

mkdir -p "$work/root/etc"
printf 'root:x:0:0::/root:/bin/sh\n' >"$work/root/etc/passwd"
printf 'root:x:0:\n' >"$work/root/etc/group"
systemd-sysusers --root="$work/root" "$source/tools/systemd/voldfs.sysusers.conf" || fail "sysusers"
grep -q '^voldfs-metrics:' "$work/root/etc/group" || fail "sysusers made no group"
systemd-tmpfiles --root="$work/root" --create "$source/tools/systemd/voldfs.tmpfiles.conf" || fail "tmpfiles"
[[ $(stat -c %a "$work/root/var/lib/voldfs") == 700 ]] || fail "tmpfiles made no state directory"

if [[ -x $build/bin/voldmgmt ]]; then
	# Every flag of the installed file is one of the daemon's.
	sed -n 's/^#\?\(--[a-z_]*=.*\)/\1/p' "$source/tools/systemd/voldmgmt.conf" >"$work/flags"
	[[ -s $work/flags ]] || fail "voldmgmt.conf shows no flag"
	"$build/bin/voldmgmt" --flagfile="$work/flags" --version >"$work/said" 2>&1 || fail "voldmgmt.conf: $(cat "$work/said")"
fi
exit $failed
