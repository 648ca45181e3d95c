"""One page, the state it shows, the buttons' writes, and a page that is cached itself."""

from django.urls import path
from shop import views
from shop.nudged_values import prices

urlpatterns = [
    path("", views.page, name="page"),
    path("state/", views.state, name="state"),
    path("do/<slug:name>/", views.act, name="act"),
    path("daemon/<slug:command>/", views.daemon, name="daemon"),
    path("ready/", views.ready, name="ready"),
    path("prices.json", prices, name="prices"),
]
