"""What people look at: tables for a terminal, figures, and a page that stands by itself.

``content`` selects and words plain data, ``tables`` draws it with rich, ``figures`` with matplotlib and
``page`` with jinja2; each outside library has one owner.
"""
