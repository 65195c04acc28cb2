sed -i 's/return unit_cents \* count - free/return unit_cents * (count - free)/' basket.py
grep -n 'return' basket.py
