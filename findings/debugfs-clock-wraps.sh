#!/bin/bash
# debugfs (e2fsprogs 1.47.0) keeps 64 bits of the time that `set_current_time` is given, says so, and writes 32 of them: a file that it creates "in 2160"
# is dated 2024. The time -1 is refused, because the parser returns -1 for an error, and the exit status is 0 either way. The full range needs
# `set_inode_field FILE mtime_extra N` (two more bits of the seconds, thirty of nanoseconds), and -1 is @4294967295 with an mtime_extra of 0.
# What a good guess says: the time that is confirmed is the time that is stored, or the command fails.
# Needs e2fsprogs. Exits with 0 while this is so, 1 when it has changed, 2 when it cannot be tried.
set -u
PATH=$PATH:/usr/sbin:/sbin
command -v debugfs >/dev/null && command -v mke2fs >/dev/null || { echo "e2fsprogs is not installed"; exit 2; }
version=$(debugfs -V 2>&1 | head -n 1); echo "$version"
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder" || exit 2
export TZ=UTC
truncate -s 16M disk; mke2fs -q -t ext4 -I 256 disk; echo content >content
printf '%s\n' 'set_current_time @6000000000' 'write content far' 'set_current_time @-1' 'write content minus-one' >commands
debugfs -w -f commands disk >said 2>&1; status=$?
grep -v '^$' said; echo "exit status $status"
time_of() { debugfs -R "stat $1" disk 2>/dev/null | sed -n 's/^ *mtime: //p'; }
echo "far: $(time_of far)"
grep -q 'Setting current time to .* 2160' said && [[ $(time_of far) == *2024 ]] && grep -q "Couldn't parse argument as a time: @-1" said && [ "$status" = 0 ] ||
    { echo "CHANGED: another behaviour than that of 1.47.0"; exit 1; }
printf '%s\n' 'set_current_time @4294967295' 'write content before' 'set_inode_field before mtime_extra 0' 'set_inode_field far mtime_extra 1' >commands
debugfs -w -f commands disk >/dev/null 2>&1
echo "with mtime_extra: before: $(time_of before), far: $(time_of far)"
[[ $(time_of before) == *'23:59:59 1969' && $(time_of far) == *2160 ]] || { echo "CHANGED: mtime_extra does not help"; exit 1; }
