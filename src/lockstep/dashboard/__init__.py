"""The live terminal view: what each validator does, what the venue makes, what happened.

`screen` is what is shown, as plain data; `render` turns it into a picture (Rich) or into plain lines; `view` puts
either onto a terminal. Nothing here knows processes, sockets or clocks.
"""
