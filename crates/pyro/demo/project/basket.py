"""A shopping basket. Three of a kind cost as much as two."""


def price(unit_cents: int, count: int) -> int:
    free = count // 3
    return unit_cents * count - free
