from pyramid.config import Configurator
from pyramid.response import Response


def hello(request):
    return Response("Hello from Pyramid")


def posted(request):
    return {"name": request.POST["name"], "path": request.path}


def main(global_config=None, **settings):
    with Configurator(settings=settings) as config:
        config.add_route("hello", "/")
        config.add_route("posted", "/form", request_method="POST")
        config.add_view(hello, route_name="hello")
        config.add_view(posted, route_name="posted", renderer="json")
        return config.make_wsgi_app()


app = main()
