"""Everything runs under gevent's patching, as the daemon does; patched before anything else is imported."""

from gevent import monkey

monkey.patch_all()
