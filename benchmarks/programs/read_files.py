"""The floor: reads every byte below the home directory into one buffer, and does nothing with it."""

import os

buffer = bytearray(1 << 20)
for top, _, names in os.walk(os.environ["HOME"]):
    for name in names:
        with open(os.path.join(top, name), "rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
