"""One page, the state it shows, and the buttons' writes."""

from django.urls import path
from shop import views

urlpatterns = [
    path("", views.page, name="page"),
    path("state/", views.state, name="state"),
    path("do/<slug:name>/", views.act, name="act"),
    path("daemon/<slug:command>/", views.daemon, name="daemon"),
    path("ready/", views.ready, name="ready"),
]
