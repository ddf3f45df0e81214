"""Calls back the people whose call a FreeSWITCH contact centre missed."""

__version__ = "0.1.0"
