/* Polls the handlers of pending requests, one after the other.

   Rules of this file
     1. Results and errors are those of poll_pending_pure in polling.py, which says what they are; the same tests run on both.
     2. A handler may switch to another greenlet within a call: nothing is kept here that others could change, but
        the references to what was passed.

   The limited API of Python 3.10: one binary serves all later versions. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>

static struct { const char *text; PyObject *name; } NAMES[] = {
    {"request"}, {"greenlet"}, {"context"}, {"hold"}, {"gr_context"}, {"__dict__"}, {"links"}, {"current"}, {"waiter"},
};
enum { REQUEST, GREENLET, CONTEXT, HOLD, GR_CONTEXT, DICT, LINKS, CURRENT, WAITER, COUNT };

/* Whether an attribute is this object; -1 with an error. */
static int is(PyObject *object, int name, PyObject *expected)
{
    PyObject *value = PyObject_GetAttr(object, NAMES[name].name);
    Py_XDECREF(value);
    return value ? value == expected : -1;
}

/* Whether the attributes of a greenlet are none. */
static int is_bare(PyObject *greenlet)
{
    PyObject *attributes = PyObject_GetAttr(greenlet, NAMES[DICT].name);
    Py_ssize_t size = attributes ? PyDict_Size(attributes) : -1;
    Py_XDECREF(attributes);
    return size < 0 ? -1 : size == 0;
}

/* Whether this moment is before that time. */
static int is_before(PyObject *until, PyObject *clock)
{
    PyObject *now = PyObject_CallObject(clock, NULL);
    int before = now ? PyObject_RichCompareBool(now, until, Py_LT) : -1;
    Py_XDECREF(now);
    return before;
}

/* Whether the one who waits may be asked: 1, or 0, or -1 with an error. */
static int may_be_asked(PyObject *asked, PyObject *request, PyObject *open)
{
    if (request == Py_None)
        return 0;
    PyObject *key = PyLong_FromVoidPtr(request);
    int found = key ? PyDict_Contains(open, key) : -1;
    Py_XDECREF(key);
    if (found == 0) {
        int nobody = is(asked, WAITER, Py_None);
        found = nobody < 0 ? -1 : !nobody;
    }
    return found == 1 ? is(asked, GREENLET, Py_None) : found;
}

static int prepare(PyObject *asked, PyObject *greenlet)
{
    PyObject *context = PyObject_GetAttr(asked, NAMES[CONTEXT].name);
    int failed = !context || PyObject_SetAttr(asked, NAMES[GREENLET].name, greenlet) < 0 ||
                 PyObject_SetAttr(greenlet, NAMES[HOLD].name, asked) < 0 ||
                 (context != Py_None && PyObject_SetAttr(greenlet, NAMES[GR_CONTEXT].name, context) < 0);
    Py_XDECREF(context);
    return failed ? -1 : 1;
}

static PyObject *raised(void)
{
    PyObject *type, *error, *traceback;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback)
        PyException_SetTraceback(error, traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return error;
}

static PyObject *poll_pending(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
    if (given != 8 || !PyIter_Check(arguments[0]) || !PyDict_Check(arguments[4]))
        return PyErr_Format(PyExc_TypeError, "poll_pending(left, handle, greenlet, asking, open, steady, until, clock)");
    PyObject *left = arguments[0], *handle = arguments[1], *greenlet = arguments[2], *asking = arguments[3];
    PyObject *asked, *found = NULL, *result = NULL, *error = NULL;
    int steady = PyObject_IsTrue(arguments[5]), goes_on = steady;
    Py_ssize_t references = Py_REFCNT(greenlet) + 1;    /* that of the one who is asked about */
    while (goes_on >= 0 && !found && (asked = PyIter_Next(left))) {
        PyObject *request = PyObject_GetAttr(asked, NAMES[REQUEST].name);
        int may = request ? may_be_asked(asked, request, arguments[4]) : -1;
        if (may != 1)
            goes_on = may;
        else if ((goes_on = prepare(asked, greenlet)) > 0) {
            result = PyObject_CallFunctionObjArgs(handle, request, NULL);
            if (!result)
                error = raised();
            goes_on = steady && result == Py_None && Py_REFCNT(greenlet) == references;
            if (goes_on > 0) goes_on = is(greenlet, GR_CONTEXT, Py_None);
            if (goes_on > 0) goes_on = is_bare(greenlet);
            if (goes_on > 0) goes_on = is(greenlet, LINKS, Py_None);
            if (goes_on > 0) goes_on = is(asking, CURRENT, greenlet);
            if (goes_on > 0) goes_on = is_before(arguments[6], arguments[7]);
            if (goes_on > 0 && PyObject_SetAttr(asked, NAMES[GREENLET].name, Py_None) < 0)
                goes_on = -1;
        }
        if (goes_on == 0)
            found = PyTuple_Pack(4, asked, may == 1 ? request : Py_None, result ? result : Py_None, error ? error : Py_None);
        if (goes_on == 0 && !found)
            goes_on = -1;
        Py_CLEAR(result);
        Py_CLEAR(error);
        Py_XDECREF(request);
        Py_DECREF(asked);
    }
    if (found || goes_on < 0 || PyErr_Occurred())
        return found;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"poll_pending", (PyCFunction)(void (*)(void))poll_pending, METH_FASTCALL,
     "poll_pending(left, handle, greenlet, asking, open, steady, until, clock); see polling.poll_pending_pure."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_polling", "Polls the handlers of pending requests.", -1, methods,
};

PyMODINIT_FUNC PyInit__polling(void)
{
    PyObject *module = PyModule_Create(&definition);
    for (int i = 0; i < COUNT; i++)
        if (!(NAMES[i].name = PyUnicode_InternFromString(NAMES[i].text)))
            return NULL;
    return module;
}
