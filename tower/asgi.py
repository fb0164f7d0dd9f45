"""The roof: one application for requests and websockets, wrapped in its access line."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tower.settings")
import django

django.setup(set_prefix=False)  # before what follows imports models

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from instances.direct import Direct  # noqa: E402
from instances.routing import websocket_urlpatterns  # noqa: E402
from tower.access_log import Observed  # noqa: E402
from tower.onehop import OneHop  # noqa: E402
from tower.proxies import Forwarded  # noqa: E402

application = Forwarded(
    Observed(ProtocolTypeRouter({"http": Direct(OneHop()), "websocket": URLRouter(websocket_urlpatterns)}))
)
