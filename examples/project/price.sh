#!/bin/sh
# Prints what a basket costs, in cents: price.sh PRICE QUANTITY. Ten or more of a thing are 10 % cheaper.
total=$(($1 * $2))
if [ "$2" -gt 10 ]; then
    total=$((total * 90 / 100))
fi
echo "$total"
