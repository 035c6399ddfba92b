/* The fields of a request, and the pair that it unpacks as.

   Rules of this file
     1. Results and errors are those of PureFields in fields.py, which says what they are; the same tests run on both.

   The limited API of Python 3.10: one binary serves all later versions. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030a0000
#include <Python.h>
#include <structmember.h>
#include <stddef.h>

enum { FRAMES, ENVELOPE_LENGTH, RECEIVED_AT, ORIGIN, SERVER, GIVEN, DATA = GIVEN, COUNT };

typedef struct { PyObject_HEAD PyObject *field[COUNT]; Py_hash_t hash; } Fields;     /* hash: 0 until somebody asks */

static PyTypeObject *fields_type;

static int fields_init(Fields *self, PyObject *arguments, PyObject *keywords)
{
    Py_ssize_t length;
    PyObject *data;
    if (PyTuple_Size(arguments) != GIVEN || (keywords && PyDict_Size(keywords)) || !PyList_Check(PyTuple_GetItem(arguments, FRAMES))) {
        PyErr_SetString(PyExc_TypeError, "a request takes a list of frames, envelope_length, received_at, origin and server");
        return -1;
    }
    length = PyLong_AsSsize_t(PyTuple_GetItem(arguments, ENVELOPE_LENGTH));
    if ((length == -1 && PyErr_Occurred()) || !(data = PyList_GetItem(PyTuple_GetItem(arguments, FRAMES), length)))
        return -1;
    for (int i = 0; i < COUNT; i++) {
        PyObject *before = self->field[i];
        self->field[i] = i == DATA ? data : PyTuple_GetItem(arguments, i);
        Py_INCREF(self->field[i]);
        Py_XDECREF(before);
    }
    self->hash = 0;
    return 0;
}

static int fields_traverse(Fields *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; i < COUNT; i++)
        Py_VISIT(self->field[i]);
    return 0;
}

static int fields_clear(Fields *self)
{
    for (int i = 0; i < COUNT; i++)
        Py_CLEAR(self->field[i]);
    return 0;
}

static void fields_dealloc(Fields *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    fields_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* (client_id, data); NULL with an error where the request was not made whole. */
static PyObject *pair(Fields *self)
{
    PyObject *client_id = self->field[FRAMES] ? PyList_GetItem(self->field[FRAMES], 0) : NULL;
    if (client_id && self->field[DATA])
        return PyTuple_Pack(2, client_id, self->field[DATA]);
    return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_AttributeError, "this request has no frames");
}

static PyObject *fields_iter(Fields *self)
{
    PyObject *both = pair(self), *iterator = both ? PyObject_GetIter(both) : NULL;
    Py_XDECREF(both);
    return iterator;
}

static Py_hash_t fields_hash(Fields *self)
{
    if (self->hash)
        return self->hash;
    PyObject *both = pair(self);
    Py_hash_t hash = both ? PyObject_Hash(both) : -1;
    Py_XDECREF(both);
    if (hash != -1)         /* an error is not kept */
        self->hash = hash;
    return hash;
}

static PyObject *fields_compare(Fields *self, PyObject *other, int how)
{
    if (how == Py_EQ || how == Py_NE) {
        if (PyObject_TypeCheck(other, fields_type))
            return PyBool_FromLong(((PyObject *)self == other) == (how == Py_EQ));
        if (PyTuple_Check(other)) {
            PyObject *both = pair(self), *result = both ? PyObject_RichCompare(both, other, how) : NULL;
            Py_XDECREF(both);
            return result;
        }
    }
    Py_INCREF(Py_NotImplemented);
    return Py_NotImplemented;
}

static Py_ssize_t fields_length(Fields *self)
{
    return 2;
}

static PyObject *fields_item(Fields *self, PyObject *index)
{
    PyObject *both = pair(self), *item = both ? PyObject_GetItem(both, index) : NULL;
    Py_XDECREF(both);
    return item;
}

static int fields_bool(Fields *self)
{
    return 1;
}

#define FIELD(name, number, flags) {name, T_OBJECT_EX, offsetof(Fields, field) + number * sizeof(PyObject *), flags}

static PyMemberDef fields_members[] = {
    FIELD("frames", FRAMES, READONLY), FIELD("envelope_length", ENVELOPE_LENGTH, READONLY), FIELD("data", DATA, READONLY),
    FIELD("received_at", RECEIVED_AT, 0), FIELD("origin", ORIGIN, 0), FIELD("server", SERVER, 0), {NULL},
};

static PyType_Slot fields_slots[] = {
    {Py_tp_doc, "The fields of a request; see fields.PureFields."},
    {Py_tp_new, PyType_GenericNew}, {Py_tp_init, fields_init}, {Py_tp_dealloc, fields_dealloc},
    {Py_tp_traverse, fields_traverse}, {Py_tp_clear, fields_clear}, {Py_tp_members, fields_members},
    {Py_tp_iter, fields_iter}, {Py_tp_hash, fields_hash}, {Py_tp_richcompare, fields_compare},
    {Py_mp_length, fields_length}, {Py_mp_subscript, fields_item}, {Py_nb_bool, fields_bool}, {0},
};

static PyType_Spec fields_spec = {
    "green_router.messages._fields.CompiledFields", sizeof(Fields), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE, fields_slots,
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_fields", "The fields of a request.", -1, NULL};

PyMODINIT_FUNC PyInit__fields(void)
{
    PyObject *module = PyModule_Create(&definition);
    fields_type = (PyTypeObject *)PyType_FromSpec(&fields_spec);
    if (!module || !fields_type || PyModule_AddObject(module, "CompiledFields", (PyObject *)fields_type) < 0)
        return NULL;
    Py_INCREF(fields_type);
    return module;
}
