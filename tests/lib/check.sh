# For the checks in tests/check_*.sh, which source it: check.sh SOURCE BUILD. A check ends with `exit $failed`.
# shellcheck shell=bash disable=SC2034
set -euo pipefail
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() {
	echo "$(basename "$0" .sh): $*" >&2
	failed=1
}
