/* Whole messages from and to a ROUTER, by libzmq's own calls.

   Rules of this file
     1. Results and errors are those of frames_pure.py, which says what each call does; the same tests run on both.
     2. libzmq's functions come from the library that pyzmq has loaded: ``load`` is told where they are. Nothing is linked.
     3. Nothing here waits, so the GIL is held: what an application's other threads do, they do before or after a call.
     4. It checks before each call that the socket is open, as pyzmq does: a handle that was closed is freed memory.
     5. EINTR is tried again a few times, not for ever: in a forked child every call of libzmq gives it.

   The limited API of Python 3.10: one binary serves all later versions. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <errno.h>

enum { SENT, FULL, GONE };                          /* as in frames_pure.py */
enum { DONTWAIT = 1, SNDMORE = 2, EVENTS = 15, POLLIN = 1, TRIES = 8 };     /* zmq.h */

typedef union { unsigned char bytes[64]; void *aligned; } message_t;    /* zmq_msg_t, whose size is libzmq's ABI */

static struct {
    int (*msg_init)(message_t *);
    int (*msg_recv)(message_t *, void *, int);
    int (*msg_move)(message_t *, message_t *);
    int (*msg_close)(message_t *);
    void *(*msg_data)(message_t *);
    size_t (*msg_size)(const message_t *);
    int (*msg_more)(const message_t *);
    int (*msg_get)(const message_t *, int);
    const char *(*msg_gets)(const message_t *, const char *);
    int (*send)(void *, const void *, size_t, int);
    int (*getsockopt)(void *, int, void *, size_t *);
    int (*errno_)(void);
} zmq;

static const struct { const char *name; void **where; } NEEDED[] = {
    {"zmq_msg_init", (void **)&zmq.msg_init}, {"zmq_msg_recv", (void **)&zmq.msg_recv},
    {"zmq_msg_move", (void **)&zmq.msg_move}, {"zmq_msg_close", (void **)&zmq.msg_close},
    {"zmq_msg_data", (void **)&zmq.msg_data}, {"zmq_msg_size", (void **)&zmq.msg_size},
    {"zmq_msg_more", (void **)&zmq.msg_more}, {"zmq_msg_get", (void **)&zmq.msg_get},
    {"zmq_msg_gets", (void **)&zmq.msg_gets}, {"zmq_send", (void **)&zmq.send},
    {"zmq_getsockopt", (void **)&zmq.getsockopt}, {"zmq_errno", (void **)&zmq.errno_},
};
enum { NEEDED_COUNT = sizeof NEEDED / sizeof *NEEDED };

static PyObject *error_of;                          /* error_of(errno) -> the exception that pyzmq raises */
static PyObject *closed_name;                       /* "_closed" */
static PyTypeObject *origin_type;

static void *raise_errno(int number)
{
    PyObject *error = PyObject_CallFunction(error_of, "i", number);
    if (error) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return NULL;
}

/* -- the origin of a message: its routing id's frame, with which libzmq keeps the properties of the connection ------- */

typedef struct { PyObject_HEAD message_t message; } Origin;

static PyObject *origin_get(Origin *self, PyObject *name)
{
    if (PyLong_Check(name)) {
        long option = PyLong_AsLong(name);
        int value = option == -1 && PyErr_Occurred() ? -2 : zmq.msg_get(&self->message, (int)option);
        return value >= 0 ? PyLong_FromLong(value) : value == -2 ? NULL : raise_errno(zmq.errno_());
    }
    const char *text = PyUnicode_Check(name) ? PyUnicode_AsUTF8AndSize(name, NULL) : PyBytes_AsString(name);
    if (!text)
        return NULL;
    const char *value = zmq.msg_gets(&self->message, text);
    return value ? PyUnicode_FromString(value) : raise_errno(zmq.errno_());
}

static void origin_dealloc(Origin *self)
{
    PyTypeObject *type = Py_TYPE(self);
    zmq.msg_close(&self->message);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef origin_methods[] = {
    {"get", (PyCFunction)origin_get, METH_O, "get(name) -> a property of the connection, as Frame.get; in any thread."},
    {NULL},
};

static PyType_Slot origin_slots[] = {
    {Py_tp_doc, "Where a message came from: its connection's properties, without its body."},
    {Py_tp_dealloc, origin_dealloc}, {Py_tp_methods, origin_methods}, {0},
};

static PyType_Spec origin_spec = {
    "green_router.sockets._frames.Origin", sizeof(Origin), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE, origin_slots,
};

/* -- the messages of one socket ------------------------------------------------------------------------------------- */

typedef struct { PyObject_HEAD PyObject *socket; void *handle; int surplus; } Frames;

static int is_open(Frames *self)
{
    PyObject *closed = PyObject_GetAttr(self->socket, closed_name);
    if (!closed)
        return 0;
    Py_DECREF(closed);
    if (closed == Py_False)
        return 1;
    raise_errno(ENOTSOCK);
    return 0;
}

/* Whether to try again what has failed so often; an exception is set if a signal's handler has raised one. */
static int interrupted(int *tries)
{
    return zmq.errno_() == EINTR && ++*tries < TRIES && PyErr_CheckSignals() == 0;
}

static int take(Frames *self, message_t *message)
{
    int tries = 0, size;
    while ((size = zmq.msg_recv(message, self->handle, DONTWAIT)) < 0 && interrupted(&tries)) {}
    return size;
}

static int add(PyObject *frames, message_t *message)
{
    PyObject *frame = PyBytes_FromStringAndSize(zmq.msg_data(message), (Py_ssize_t)zmq.msg_size(message));
    int failed = !frame || PyList_Append(frames, frame) < 0;
    Py_XDECREF(frame);
    return !failed;
}

static PyObject *frames_receive(Frames *self, PyObject *argument)
{
    Py_ssize_t most = PyLong_AsSsize_t(argument), count = 1;
    if ((most == -1 && PyErr_Occurred()) || !is_open(self))
        return NULL;
    message_t message;
    zmq.msg_init(&message);
    if (take(self, &message) < 0) {
        if (PyErr_Occurred())
            return NULL;
        if (zmq.errno_() != EAGAIN)
            return raise_errno(zmq.errno_());
        Py_RETURN_NONE;
    }
    PyObject *frames = PyList_New(0), *result = NULL;
    Origin *origin = PyObject_New(Origin, origin_type);
    if (origin)
        zmq.msg_init(&origin->message);
    if (!frames || !origin || !add(frames, &message))
        goto done;
    self->surplus = zmq.msg_more(&message);
    zmq.msg_move(&origin->message, &message);
    while (self->surplus && count <= most) {
        if (take(self, &message) < 0) {
            if (!PyErr_Occurred())
                raise_errno(zmq.errno_());
            goto done;
        }
        self->surplus = zmq.msg_more(&message);
        if (!add(frames, &message))
            goto done;
        count++;
    }
    result = PyTuple_Pack(2, frames, origin);
done:
    zmq.msg_close(&message);
    Py_XDECREF(frames);
    Py_XDECREF(origin);
    return result;
}

static PyObject *frames_skip(Frames *self, PyObject *argument)
{
    Py_ssize_t most = PyLong_AsSsize_t(argument);
    if ((most == -1 && PyErr_Occurred()) || !is_open(self))
        return NULL;
    message_t message;
    zmq.msg_init(&message);
    for (; self->surplus && most > 0; most--) {
        if (take(self, &message) < 0)
            return PyErr_Occurred() ? NULL : raise_errno(zmq.errno_());
        self->surplus = zmq.msg_more(&message);
    }
    zmq.msg_close(&message);
    return PyBool_FromLong(!self->surplus);
}

/* 0, or an errno; -1 if an exception is set. */
static int give(Frames *self, PyObject *frame, int flags)
{
    char *data;
    Py_ssize_t size;
    int tries = 0;
    if (PyBytes_AsStringAndSize(frame, &data, &size) < 0)
        return -1;
    while (zmq.send(self->handle, data, (size_t)size, flags) < 0)
        if (!interrupted(&tries))
            return PyErr_Occurred() ? -1 : zmq.errno_();
    return 0;
}

static int only_bytes(PyObject *frames, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++)
        if (!PyBytes_Check(PyList_GetItem(frames, i)))
            return 0;
    return 1;
}

static PyObject *frames_send(Frames *self, PyObject *const *arguments, Py_ssize_t given)
{
    if (given != 3 || !PyList_Check(arguments[0]))
        return PyErr_Format(PyExc_TypeError, "send(frames, envelope_length, body) takes a list, an int, and bytes or a list");
    PyObject *frames = arguments[0], *body = arguments[2];
    Py_ssize_t envelope_length = PyLong_AsSsize_t(arguments[1]), body_length = 1, number = 0;
    if (envelope_length == -1 && PyErr_Occurred())
        return NULL;
    if (envelope_length > PyList_Size(frames))
        envelope_length = PyList_Size(frames);
    if (PyList_Check(body))
        body_length = PyList_Size(body);
    else if (!PyBytes_Check(body))
        body_length = 0;
    if (body_length == 0 || !only_bytes(frames, envelope_length) || (PyList_Check(body) && !only_bytes(body, body_length)))
        return PyErr_Format(PyExc_TypeError, "send takes frames that are bytes, and at least one of a body");
    if (!is_open(self))
        return NULL;
    int failed = 0;
    for (; number < envelope_length + body_length && !failed; number++) {
        PyObject *frame = number < envelope_length ? PyList_GetItem(frames, number)
                                        : PyList_Check(body) ? PyList_GetItem(body, number - envelope_length) : body;
        failed = give(self, frame, number < envelope_length + body_length - 1 ? DONTWAIT | SNDMORE : DONTWAIT);
    }
    if (failed == 0 || failed == EAGAIN || failed == EHOSTUNREACH)
        return PyLong_FromLong(failed == 0 ? SENT : failed == EAGAIN ? FULL : GONE);
    return failed == -1 ? NULL : raise_errno(failed);
}

static PyObject *frames_readable(Frames *self, PyObject *nothing)
{
    int events, tries = 0;
    size_t size = sizeof events;
    if (!is_open(self))
        return NULL;
    while (zmq.getsockopt(self->handle, EVENTS, &events, &size) < 0)
        if (!interrupted(&tries))
            return PyErr_Occurred() ? NULL : raise_errno(zmq.errno_());
    return PyBool_FromLong(events & POLLIN);
}

static PyObject *frames_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *socket, *underlying;
    if (!PyArg_ParseTuple(arguments, "O", &socket))
        return NULL;
    if (!error_of)
        return PyErr_Format(PyExc_RuntimeError, "load was not called");
    if (!(underlying = PyObject_GetAttrString(socket, "underlying")))
        return NULL;
    void *handle = PyLong_AsVoidPtr(underlying);
    Py_DECREF(underlying);
    Frames *self = handle ? PyObject_New(Frames, type) : NULL;
    if (!self)
        return PyErr_Occurred() ? NULL : raise_errno(ENOTSOCK);
    Py_INCREF(socket);
    self->socket = socket;
    self->handle = handle;
    self->surplus = 0;
    return (PyObject *)self;
}

static void frames_dealloc(Frames *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(self->socket);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyMethodDef frames_methods[] = {
    {"receive", (PyCFunction)frames_receive, METH_O, "receive(most) -> (frames, origin), or None"},
    {"skip", (PyCFunction)frames_skip, METH_O, "skip(most) -> whether nothing is left of the message"},
    {"send", (PyCFunction)(void (*)(void))frames_send, METH_FASTCALL, "send(frames, envelope_length, body) -> SENT, FULL or GONE"},
    {"readable", (PyCFunction)frames_readable, METH_NOARGS, "readable() -> whether there is a message"},
    {NULL},
};

static PyType_Slot frames_slots[] = {
    {Py_tp_doc, "CompiledFrames(socket): its messages; see frames_pure.PureFrames."},
    {Py_tp_new, frames_new}, {Py_tp_dealloc, frames_dealloc}, {Py_tp_methods, frames_methods}, {0},
};

static PyType_Spec frames_spec = {
    "green_router.sockets._frames.CompiledFrames", sizeof(Frames), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE, frames_slots,
};

/* -- the module ----------------------------------------------------------------------------------------------------- */

static PyObject *load(PyObject *module, PyObject *arguments)
{
    PyObject *addresses, *error;
    if (!PyArg_ParseTuple(arguments, "OO", &addresses, &error))
        return NULL;
    for (int i = 0; i < NEEDED_COUNT; i++) {
        PyObject *address = PyMapping_GetItemString(addresses, NEEDED[i].name);
        *NEEDED[i].where = address ? PyLong_AsVoidPtr(address) : NULL;
        Py_XDECREF(address);
        if (!*NEEDED[i].where)
            return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_ValueError, "%s is nowhere", NEEDED[i].name);
    }
    Py_INCREF(error);
    Py_XDECREF(error_of);
    error_of = error;
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"load", load, METH_VARARGS, "load(addresses, error_of): where libzmq's functions are, by their names in NEEDED."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_frames", "Whole messages from and to a ROUTER, by libzmq's own calls.", -1, module_methods,
};

PyMODINIT_FUNC PyInit__frames(void)
{
    PyObject *module = PyModule_Create(&definition), *names = PyTuple_New(NEEDED_COUNT), *frames_type;
    closed_name = PyUnicode_InternFromString("_closed");
    origin_type = (PyTypeObject *)PyType_FromSpec(&origin_spec);
    frames_type = PyType_FromSpec(&frames_spec);
    if (!module || !names || !closed_name || !origin_type || !frames_type)
        return NULL;
    for (int i = 0; i < NEEDED_COUNT; i++)
        PyTuple_SetItem(names, i, PyUnicode_FromString(NEEDED[i].name));
    if (PyModule_AddObject(module, "NEEDED", names) < 0 || PyModule_AddObject(module, "CompiledFrames", frames_type) < 0)
        return NULL;
    return module;
}
