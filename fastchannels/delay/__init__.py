"""Messages that are sent later: an app for ``INSTALLED_APPS``, and the command ``rundelay``.

    Channel("asgi.delay").send({"channel": "news", "delay": 60_000, "content": {...}})

sends ``content`` to ``news`` a minute later. The messages wait in the database, through restarts of the command.
"""
