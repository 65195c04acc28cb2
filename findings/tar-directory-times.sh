#!/bin/bash
# GNU tar sets the time of a directory when it leaves it, and never again: if something of the directory comes later in the archive, the directory is
# dated now, although the archive holds its time. Nothing is said, and the exit status is 0. Archives that are appended to (`tar -r`) or packed from a list of
# names look like that. What a good guess says: what an archive holds of a directory is restored, as the times of files are.
# Needs GNU tar. Exits with 0 while this is so, 1 when it has changed, 2 when it cannot be tried.
set -u
tar --version 2>/dev/null | grep -q 'GNU tar' || { echo "GNU tar is not installed"; exit 2; }
tar --version | head -n 1
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder" || exit 2
mkdir -p in/folder in/other out-together out-apart
echo 1 >in/folder/one; echo 2 >in/folder/two; echo 3 >in/other/three
touch -d @1000000000 in/folder/* in/other/* in/folder in/other
tar -C in --no-recursion -cf together.tar folder folder/one folder/two other other/three
tar -C in --no-recursion -cf apart.tar folder folder/one other other/three folder/two
tar -tvf apart.tar | head -n 1
tar -C out-together -xf together.tar; one=$?
tar -C out-apart -xf apart.tar; two=$?
together=$(stat -c %Y out-together/folder); apart=$(stat -c %Y out-apart/folder)
echo "what it holds together: $together (status $one); with another directory between: $apart (status $two)"
[ "$together" = 1000000000 ] && [ "$apart" != 1000000000 ] && [ "$one$two" = 00 ] || { echo "CHANGED"; exit 1; }
