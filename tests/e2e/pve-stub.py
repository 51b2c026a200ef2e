#!/usr/bin/python3
"""Stand-in for the API of Proxmox VE, as far as fence_pve calls it.

    pve-stub.py ADDRESS PORT CERTIFICATE FOLDER

CERTIFICATE is a PEM file with the key. In FOLDER are
    password    what a client has to log in with
    vms/ID      a VM: its name, and running or stopped, separated by a blank
    stuck       if it is there: calls to stop are accepted, and do nothing; if it says `once`, the
                next question for the VM's state is answered with stopped
    calls       written: a line for each call, without its data
"""

import http.server
import json
import os
import re
import ssl
import sys
import urllib.parse

ADDRESS, PORT, CERTIFICATE, FOLDER = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
NODE = "pve1"
TICKET, CSRF_TOKEN = "PVE:stub:ticket", "stub:token"
# VMs whose state is wrong in the next answer.
lies = set()
VM_CALL = re.compile(r"nodes/%s/qemu/(\d+)/status/(current|start|stop)" % NODE)


def path_of(*names):
    return os.path.join(FOLDER, *names)


def read(*names):
    with open(path_of(*names), encoding="utf-8") as file:
        return file.read().strip()


def vm_of(number):
    name, state = read("vms", number).split()
    return {"vmid": number, "name": name, "status": state}


def set_state(number, state):
    text = "%s %s\n" % (vm_of(number)["name"], state)
    with open(path_of("vms", number + ".new"), "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(path_of("vms", number + ".new"), path_of("vms", number))


class Refused(Exception):
    """Answer of a status other than 200."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One call."""

    def do_GET(self):
        self.answer(self.get)

    def do_POST(self):
        self.answer(self.post)

    def answer(self, call):
        path = self.path.removeprefix("/api2/json/")
        try:
            code, data = 200, call(path)
        except Refused as refused:
            code, data = refused.args[0], None
        with open(path_of("calls"), "a", encoding="utf-8") as file:
            file.write("%s %s %d\n" % (self.command, path, code))
        body = json.dumps({"data": data}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def check_ticket(self):
        if "PVEAuthCookie=" + TICKET not in self.headers.get("Cookie", ""):
            raise Refused(401)

    def get(self, path):
        self.check_ticket()
        if path == "nodes":
            return [{"node": NODE, "status": "online"}]
        if path == "nodes/%s/qemu" % NODE:
            numbers = [name for name in os.listdir(path_of("vms")) if name.isdigit()]
            return [vm_of(number) for number in sorted(numbers)]
        number, action = self.vm_call(path)
        if action != "current":
            raise Refused(501)
        vm = vm_of(number)
        if number in lies:
            lies.discard(number)
            vm["status"] = "stopped"
        return vm

    def post(self, path):
        data = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        if path == "access/ticket":
            fields = urllib.parse.parse_qs(data)
            if fields.get("username") != ["fence@pve"] or fields.get("password") != [read("password")]:
                raise Refused(401)
            return {"ticket": TICKET, "CSRFPreventionToken": CSRF_TOKEN, "username": "fence@pve"}
        self.check_ticket()
        if self.headers.get("CSRFPreventionToken") != CSRF_TOKEN:
            raise Refused(401)
        number, action = self.vm_call(path)
        if action == "current":
            raise Refused(501)
        if action == "start":
            set_state(number, "running")
        elif not os.path.exists(path_of("stuck")):
            set_state(number, "stopped")
        elif read("stuck") == "once":
            lies.add(number)
        return "UPID:%s:%s:%s" % (NODE, action, number)

    def vm_call(self, path):
        found = VM_CALL.fullmatch(path)
        if not found or not os.path.exists(path_of("vms", found[1])):
            raise Refused(500)
        return found[1], found[2]

    def log_message(self, *_):
        """Writes nothing: the file `calls` has the calls."""


server = http.server.ThreadingHTTPServer((ADDRESS, PORT), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE)
# The handshake is made by the thread of the connection.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
