"""A Django project in one file: its start page while there are no URLs, or a form with a CSRF token."""
import os

import django
from django import forms
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.template import engines
from django.urls import path

WITH_FORM = os.environ.get("WITH_FORM") == "1"
settings.configure(
    DEBUG=True,
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

PAGE = '<form method="post">{% csrf_token %}{{ form }}</form>'


class Name(forms.Form):
    name = forms.CharField()


def page(request):
    form = Name(request.POST or None)
    if request.method == "POST" and form.is_valid():
        return HttpResponse("Hello, " + form.cleaned_data["name"])
    return HttpResponse(engines["django"].from_string(PAGE).render({"form": form}, request))


if WITH_FORM:
    urlpatterns = [path("form", page)]
else:
    # as django-admin startproject leaves it
    urlpatterns = []

application = get_wsgi_application()
