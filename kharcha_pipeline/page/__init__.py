"""The usage page: what the published database holds, for people with a browser.

`routes.py` gives a server its routes, `database.py` keeps the published copy open, `selection.py` understands the
address, `figures.py` asks for the numbers, and `html.py`, `json_answer.py` and `tables.py` say them. Nothing here
writes, and nothing here opens anything but the published copy.
"""
