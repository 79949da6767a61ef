from chat import views
from django.urls import path

urlpatterns = [path("", views.page), path("about/", views.about)]
