"""What people and programs reach by HTTP: sessions, the API, figures.

They are served by a process of their own, so that no page holds up a call. The engine's process has `process`
(starts it, starts it again), `teller` (tells it what has changed, answers it) and `inside`; the other one
`serve`, `told`, and all that knows of HTTP. `pipe` and `messages` are between the two.
"""
