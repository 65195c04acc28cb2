#!/bin/bash
# `git diff -B -M` (and `git format-patch -B -M`) of a file that was moved over another one writes nothing about the file that was there: only `rename from` and `rename to`.
# `git apply` and `git am` refuse that patch on the very tree it was made from: "already exists in working directory". Without `-B` it applies.
# The manual says of `-D` that its output cannot be applied, and nothing like that of `-B`.
# Needs git. Exits with 0 while this is so, 1 when it has changed, 2 when it cannot be tried.
set -u
command -v git >/dev/null || { echo "git is not installed"; exit 2; }
git --version
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder" || exit 2
export HOME=$folder GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.invalid GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.invalid
status=0
check() { echo "$1: $2"; [ "$2" = "$3" ] || { echo "CHANGED: it was $3"; status=1; }; }

git init -q -b main .
seq 1 400 >new; seq 1000 1400 >old; git add .; git commit -qm base
git mv -f new old; git commit -qm 'put the new file in the place of the old one'
git diff -B -M HEAD~1 HEAD >break.patch; cat break.patch
git diff -M HEAD~1 HEAD >plain.patch
git format-patch -q -B -M --stdout HEAD~1 >break.mbox
git checkout -q HEAD~1
check "lines of the patch" "$(wc -l <break.patch)" 4
git apply --check break.patch 2>error; check "git apply of -B -M, exit code" $? 1; cat error
git apply --check --index break.patch 2>/dev/null; check "git apply --index of -B -M, exit code" $? 1
git am -q break.mbox >/dev/null 2>&1; check "git am of -B -M, exit code" $? 128; git am --abort
git apply --check plain.patch; check "git apply of -M, exit code" $? 0
exit $status
