#!/bin/bash
# `git format-patch --stdout` of two commits, the first of which changes a file and the second renames it: `git am` arrives at the second commit, `git apply` exits with 0,
# leaves the file under its old name as well, and makes the new one without the change of the first commit. Renames and copies are taken from the files as they were
# before the whole input, while plain changes of one file stack. In the same way a file that one commit adds and the next one deletes is still there.
# Whoever applies a pull request's NUMBER.patch with `git apply` gets another tree than the one under review, and no message.
# Needs git. Exits with 0 while this is so, 1 when it has changed, 2 when it cannot be tried.
set -u
command -v git >/dev/null || { echo "git is not installed"; exit 2; }
git --version
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder" || exit 2
export HOME=$folder GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.invalid GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.invalid
status=0
check() { echo "$1: $2"; [ "$2" = "$3" ] || { echo "CHANGED: it was $3"; status=1; }; }

git init -q repository; cd repository || exit 2
seq 1 20 >f; git add f; git commit -qm base
sed -i 's/^2$/two/' f; git commit -qam 'change line 2'
git mv f g; sed -i 's/^19$/nineteen/' g; git commit -qam 'rename, and change line 19'
git format-patch -q --stdout HEAD~2 >../series

git checkout -q -b am HEAD~2; git am -q ../series; check "git am, exit code" $? 0
check "git am, files" "$(echo ./*)" "./g"
check "git am, changed lines" "$(grep -cE 'two|nineteen' g)" 2

mkdir ../tree; cd ../tree || exit 2; seq 1 20 >f
git apply ../series; check "git apply, exit code" $? 0
check "git apply, files" "$(echo ./*)" "./f ./g"
check "git apply, changed lines of g" "$(grep -cE 'two|nineteen' g)" 1

cd ../repository || exit 2; git checkout -q --orphan gone; git rm -q -f --cached . -r; rm -f f g; git commit -q --allow-empty -m base
echo x >n; git add n; git commit -qm 'add n'; git rm -q n; git commit -qm 'delete n'; git format-patch -q --stdout HEAD~2 >../added-and-deleted
mkdir ../empty; cd ../empty || exit 2; git apply ../added-and-deleted; check "git apply of a file added and deleted, exit code" $? 0
check "git apply of a file added and deleted, files" "$(echo ./*)" "./n"
exit $status
