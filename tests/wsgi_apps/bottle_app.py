import bottle

application = bottle.Bottle()


@application.route("/")
def hello():
    return "Hello from Bottle"


@application.post("/form")
def form():
    return "name=" + bottle.request.forms.getunicode("name")


@application.route("/static")
def static():
    return bottle.static_file("bottle_app.py", root=".", mimetype="text/plain")
