from flask import Flask, Response, request, send_file

app = Flask(__name__)


@app.route("/")
def hello():
    return "Hello from Flask"


@app.route("/greet/<name>", methods=["GET", "POST"])
def greet(name):
    return {"name": name, "form": request.form.to_dict(), "agent": request.headers.get("X-Agent")}


@app.route("/stream")
def stream():
    return Response(("part %d\n" % number for number in range(3)), mimetype="text/plain")


@app.route("/upload", methods=["POST"])
def upload():
    return str(len(request.files["file"].read()))


@app.route("/source")
def source():
    return send_file(__file__, mimetype="text/plain")
