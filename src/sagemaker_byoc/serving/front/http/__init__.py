"""The front's routes: reading requests, answering them, and the applications around both."""
