from chat import views
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import path

urlpatterns = [path("", views.page), path("about/", views.about), *staticfiles_urlpatterns()]
