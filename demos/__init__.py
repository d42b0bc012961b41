"""The demos' widgets; all work is done by :mod:`bind2gen.studio`. ``bind2gen demo`` serves them.

In a wheel this folder is ``bind2gen.demos``; from a checkout ``bind2gen demo`` imports it under the same name.
"""
