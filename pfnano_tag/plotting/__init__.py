"""Drawing only, no physics: functions take arrays and return figures, `style.save` writes them.

Reads: nothing. Writes: PNG pictures, whole or not at all, the same bytes for the same arrays.
Guarantees: no picture says who measured something unless the caller's text does; figures never touch
matplotlib's global figure list, so they may be drawn in any process or thread.
"""
