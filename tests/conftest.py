"""What all tests rely on."""

import signal

# a shell that starts the tests in the background has Ctrl-C ignored, here and in every program that is started
signal.signal(signal.SIGINT, signal.default_int_handler)
