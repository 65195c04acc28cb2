#!/bin/sh
# Compares what price.sh says with what it should say.
failed=0
check() {
    answer=$(sh price.sh "$1" "$2")
    if [ "$answer" != "$3" ]; then
        echo "FAIL: $2 things for $1 each cost $answer, not $3"
        failed=1
    fi
}
check 100 1 100
check 100 9 900
check 100 10 900
check 100 20 1800
[ "$failed" -eq 0 ] && echo "all prices are right"
exit "$failed"
