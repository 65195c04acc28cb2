import sys

from basket import price

for count, expected in [(1, 250), (2, 500), (3, 500), (7, 1250)]:
    found = price(250, count)
    if found != expected:
        sys.exit(f"FAIL: {count} pieces cost {found} cents, expected {expected}")
print("ok: 4 prices are right")
