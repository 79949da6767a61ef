import os

from django.http import JsonResponse
from django.shortcuts import render


def page(request):
    return render(request, "chat/page.html", {"edition": "Channels 4", "role": "server", "process": os.getpid()})


def about(request):
    return JsonResponse({"edition": "channels4", "process": os.getpid(), "role": "server"})
