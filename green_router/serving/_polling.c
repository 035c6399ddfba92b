/* Polls the handlers of pending requests, one after the other, and tells what a handler has left behind.

   Rules of this file
     1. Results and errors are those of PureAskedFields and poll_pending_pure in polling.py, and of left_nothing_pure in
        greenlets.py, which say what they are; the same tests run on both.
     2. A handler may switch to another greenlet within a call: nothing is kept here that others could change, but
        the references to what was passed.

   The limited API of Python 3.10: one binary serves all later versions. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <structmember.h>
#include <stddef.h>
#include <time.h>

/* ---- who waits --------------------------------------------------------------------------------------------------------- */

enum { CONTEXT, GREENLET, REQUEST, WAITER, COUNT };

typedef struct { PyObject_HEAD PyObject *field[COUNT]; } Asked;      /* a field is NULL where it is None */

static PyTypeObject *asked_type;

static int asked_traverse(Asked *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; i < COUNT; i++)
        Py_VISIT(self->field[i]);
    return 0;
}

static int asked_clear(Asked *self)
{
    for (int i = 0; i < COUNT; i++)
        Py_CLEAR(self->field[i]);
    return 0;
}

static void asked_dealloc(Asked *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    asked_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int has(Asked *self, int field)
{
    return self->field[field] && self->field[field] != Py_None;
}

static void set(Asked *self, int field, PyObject *value)
{
    PyObject *before = self->field[field];
    Py_XINCREF(value);
    self->field[field] = value;
    Py_XDECREF(before);
}

#define FIELD(name, number) {name, T_OBJECT, offsetof(Asked, field) + number * sizeof(PyObject *), 0}

static PyMemberDef asked_members[] = {
    FIELD("context", CONTEXT), FIELD("greenlet", GREENLET), FIELD("request", REQUEST), FIELD("waiter", WAITER), {NULL},
};

static PyType_Slot asked_slots[] = {
    {Py_tp_doc, "What a question needs of a request that waits; see polling.PureAskedFields."},
    {Py_tp_new, PyType_GenericNew}, {Py_tp_dealloc, asked_dealloc}, {Py_tp_traverse, asked_traverse},
    {Py_tp_clear, asked_clear}, {Py_tp_members, asked_members}, {0},
};

static PyType_Spec asked_spec = {
    "green_router.serving._polling.CompiledAskedFields", sizeof(Asked), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE, asked_slots,
};

/* ---- what a handler has left behind ------------------------------------------------------------------------------------ */

static PyObject *HOLD, *GR_CONTEXT, *LINKS, *CURRENT, *MONOTONIC;
static PyTypeObject *greenlet_type;
static Py_ssize_t weak_references;      /* where a greenlet has the list of those to it */

/* Whether an attribute is this object; -1 with an error. */
static int is(PyObject *object, PyObject *name, PyObject *expected)
{
    PyObject *value = PyObject_GetAttr(object, name);
    Py_XDECREF(value);
    return value ? value == expected : -1;
}

/* Whether the attributes of a greenlet are none. */
static int is_bare(PyObject *greenlet)
{
    PyObject *attributes = PyObject_GenericGetDict(greenlet, NULL);
    Py_ssize_t size = attributes ? PyDict_Size(attributes) : -1;
    Py_XDECREF(attributes);
    return size < 0 ? -1 : size == 0;
}

/* Whether a handler has left nothing with its greenlet, to which there are so many references otherwise. */
static int leaves_nothing(PyObject *greenlet, Py_ssize_t references)
{
    if (Py_REFCNT(greenlet) != references || *(PyObject **)((char *)greenlet + weak_references))
        return 0;
    int nothing = is(greenlet, LINKS, Py_None);
    if (nothing > 0) nothing = is(greenlet, GR_CONTEXT, Py_None);
    return nothing > 0 ? is_bare(greenlet) : nothing;
}

static PyObject *left_nothing(PyObject *module, PyObject *const *arguments, Py_ssize_t given)
{
    if (given != 2 || !PyObject_TypeCheck(arguments[0], greenlet_type))
        return PyErr_Format(PyExc_TypeError, "left_nothing(greenlet, count)");
    Py_ssize_t references = PyLong_AsSsize_t(arguments[1]);
    int nothing = references == -1 && PyErr_Occurred() ? -1 : leaves_nothing(arguments[0], references);
    return nothing < 0 ? NULL : PyBool_FromLong(nothing);
}

/* ---- the questions ----------------------------------------------------------------------------------------------------- */

/* Whether this moment is before that time. */
static int is_before(PyObject *until, PyObject *clock)
{
#ifdef __linux__
    struct timespec now;
    if (clock == MONOTONIC && PyFloat_Check(until) && !clock_gettime(CLOCK_MONOTONIC, &now))    /* which is that clock */
        return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec < PyFloat_AsDouble(until);
#endif
    PyObject *told = PyObject_CallObject(clock, NULL);
    int before = told ? PyObject_RichCompareBool(told, until, Py_LT) : -1;
    Py_XDECREF(told);
    return before;
}

/* Whether the one who waits may be asked: 1, or 0, or -1 with an error. */
static int may_be_asked(Asked *asked, PyObject *open)
{
    if (!has(asked, REQUEST) || has(asked, GREENLET))
        return 0;
    if (has(asked, WAITER))
        return 1;
    PyObject *key = PyLong_FromVoidPtr(asked->field[REQUEST]);
    int found = key ? PyDict_Contains(open, key) : -1;
    Py_XDECREF(key);
    return found;
}

static int prepare(Asked *asked, PyObject *greenlet)
{
    set(asked, GREENLET, greenlet);
    if (PyObject_SetAttr(greenlet, HOLD, (PyObject *)asked) < 0)
        return -1;
    return has(asked, CONTEXT) && PyObject_SetAttr(greenlet, GR_CONTEXT, asked->field[CONTEXT]) < 0 ? -1 : 1;
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
    if (given != 8 || !PyIter_Check(arguments[0]) || !PyObject_TypeCheck(arguments[2], greenlet_type) || !PyDict_Check(arguments[4]))
        return PyErr_Format(PyExc_TypeError, "poll_pending(left, handle, greenlet, asking, open, steady, until, clock)");
    PyObject *left = arguments[0], *handle = arguments[1], *greenlet = arguments[2], *asking = arguments[3];
    PyObject *next, *found = NULL, *result = NULL, *error = NULL;
    int steady = PyObject_IsTrue(arguments[5]), goes_on = steady;
    Py_ssize_t references = Py_REFCNT(greenlet) + 1;    /* that of the one who is asked about */
    while (goes_on >= 0 && !found && (next = PyIter_Next(left))) {
        if (!PyObject_TypeCheck(next, asked_type)) {
            PyErr_Format(PyExc_AttributeError, "%R is no request that waits", next);
            Py_DECREF(next);
            return NULL;
        }
        Asked *asked = (Asked *)next;
        PyObject *request = NULL;
        int may = may_be_asked(asked, arguments[4]);
        if (may != 1)
            goes_on = may;
        else if ((goes_on = prepare(asked, greenlet)) > 0) {
            request = asked->field[REQUEST];
            Py_INCREF(request);
            result = PyObject_CallFunctionObjArgs(handle, request, NULL);
            if (!result)
                error = raised();
            goes_on = steady && result == Py_None;
            if (goes_on > 0) goes_on = leaves_nothing(greenlet, references);
            if (goes_on > 0) goes_on = is(asking, CURRENT, greenlet);
            if (goes_on > 0) goes_on = is_before(arguments[6], arguments[7]);
            if (goes_on > 0)
                set(asked, GREENLET, NULL);
        }
        if (goes_on == 0)
            found = PyTuple_Pack(4, next, request ? request : Py_None, result ? result : Py_None, error ? error : Py_None);
        if (goes_on == 0 && !found)
            goes_on = -1;
        Py_CLEAR(result);
        Py_CLEAR(error);
        Py_XDECREF(request);
        Py_DECREF(next);
    }
    if (found || goes_on < 0 || PyErr_Occurred())
        return found;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"left_nothing", (PyCFunction)(void (*)(void))left_nothing, METH_FASTCALL,
     "left_nothing(greenlet, count); see greenlets.left_nothing_pure."},
    {"poll_pending", (PyCFunction)(void (*)(void))poll_pending, METH_FASTCALL,
     "poll_pending(left, handle, greenlet, asking, open, steady, until, clock); see polling.poll_pending_pure."},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_polling", "Polls the handlers of pending requests.", -1, methods,
};

/* What a module has by that name. */
static PyObject *import(const char *module, const char *name)
{
    PyObject *imported = PyImport_ImportModule(module), *found = imported ? PyObject_GetAttrString(imported, name) : NULL;
    Py_XDECREF(imported);
    return found;
}

PyMODINIT_FUNC PyInit__polling(void)
{
    PyObject *module = PyModule_Create(&definition), *offset;
    MONOTONIC = import("time", "monotonic");
    greenlet_type = (PyTypeObject *)import("greenlet", "greenlet");
    offset = greenlet_type ? PyObject_GetAttrString((PyObject *)greenlet_type, "__weakrefoffset__") : NULL;
    weak_references = offset ? PyLong_AsSsize_t(offset) : -1;
    Py_XDECREF(offset);
    if (weak_references <= 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_ImportError, "this greenlet keeps its weak references elsewhere");
    HOLD = PyUnicode_InternFromString("hold");
    GR_CONTEXT = PyUnicode_InternFromString("gr_context");
    LINKS = PyUnicode_InternFromString("links");
    CURRENT = PyUnicode_InternFromString("current");
    asked_type = (PyTypeObject *)PyType_FromSpec(&asked_spec);
    if (weak_references <= 0 || !MONOTONIC || !HOLD || !GR_CONTEXT || !LINKS || !CURRENT || !asked_type || !module ||
        PyModule_AddObject(module, "CompiledAskedFields", (PyObject *)asked_type) < 0)
        return NULL;
    Py_INCREF(asked_type);
    return module;
}
