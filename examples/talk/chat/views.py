"""Plain Django views. They run in the workers: the protocol server sends each request over the layer."""

import os

from django.http import JsonResponse
from django.shortcuts import render


def page(request):
    return render(request, "chat/page.html", {"edition": "2016 talk", "role": "worker", "process": os.getpid()})


def about(request):
    return JsonResponse({"edition": "talk", "process": os.getpid(), "role": "worker"})
