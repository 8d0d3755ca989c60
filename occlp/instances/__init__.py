"""Named models, each with its source.

`names` lists them, `describe` gives title, source and parameters, `get` builds one.
"""

from __future__ import annotations

# Importing the modules enters their models in the register.
from occlp.instances import gridworlds as gridworlds
from occlp.instances import operations as operations
from occlp.instances import random as random
from occlp.instances import stopping as stopping
from occlp.instances import textbook as textbook
from occlp.instances.registry import Instance as Instance
from occlp.instances.registry import describe as describe
from occlp.instances.registry import get as get
from occlp.instances.registry import names as names
