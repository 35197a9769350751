"""What all tests rely on."""

import os
import signal

# a shell that starts the tests in the background has Ctrl-C ignored, here and in every program that is started
signal.signal(signal.SIGINT, signal.default_int_handler)

# lines are as long wherever the tests are run; tox, for one, tells them to be 80 columns
os.environ["COLUMNS"] = "100"

# what one test has compiled is not to be there for the next, nor in the home of whoever runs them
os.environ["GRADCONFORM_CACHE"] = "off"
