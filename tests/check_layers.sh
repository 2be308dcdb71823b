#!/bin/bash
# No folder includes one above it, libraries take no flags, and every header guards itself.
#   check_layers.sh [SOURCE_DIRECTORY]
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"

# Folder: what it may include beside itself. A folder that is not listed may include everything.
declare -A may_include=(
	[brick/base]=""
	[brick/wire]="brick/base"
	[brick/client]="brick/base brick/wire"
	[brick/store]="brick/base brick/wire"
	[brick/server]="brick/base brick/wire brick/client brick/store"
	[brick]="brick/base brick/wire brick/client brick/store brick/server"
	[dht]="brick/base brick/wire brick/client"
	[fuse]="brick/base brick/wire brick/client dht"
	[mgmt]="brick/base brick/wire brick/client dht"
)
failed=0
complain() {
	echo "$1"
	failed=1
}

# brick/base/id.h -> brick/base; tools/voldbrick_main.cc -> tools; fuse/a/b.h -> fuse
layer_of() {
	case $1 in
		brick/*/*) local rest=${1#brick/}; echo "brick/${rest%%/*}" ;;
		*) echo "${1%%/*}" ;;
	esac
}

while IFS= read -r file; do
	folder=$(layer_of "$file")
	if [[ $file == *.h ]] && ! grep -q '^#pragma once' "$file"; then
		complain "$file: no #pragma once"
	fi
	if [[ $file != *_main.cc && $file != */main.cc && $file != tests/* ]] && grep -q '^ *# *include *<gflags' "$file"; then
		complain "$file: includes gflags; flags belong to main files, libraries take an options struct"
	fi
	while IFS=: read -r line included; do
		if [[ ! -e $included ]]; then
			complain "$file:$line: \"$included\" is no path from the top of the repository"
			continue
		fi
		target=$(layer_of "$included")
		[[ $target != "$folder" && -v may_include[$folder] ]] || continue
		[[ " ${may_include[$folder]} " == *" $target "* ]] ||
			complain "$file:$line: $folder may not include $included"
	done < <(grep -nE '^ *# *include *"' "$file" | sed -E 's/^([0-9]+):[^"]*"([^"]*)".*/\1:\2/')
done < <(for folder in brick dht fuse mgmt tools tests; do
	[[ ! -d $folder ]] || find "$folder" -name "*.cc" -o -name "*.h"
done | sort)

exit $failed
