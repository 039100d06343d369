"""The `cuda` side of the engine, without a GPU: a stand-in for CuPy that keeps CuPy's rules.

    device.py     two devices that cannot reach each other's memory; who waits for the GPU
    ndarray.py    the array: no implicit conversion, every index as CuPy takes it
    ufuncs.py     elementwise functions: CuPy's own loops, so its dtypes and its refusals
    functions.py  all other functions, with CuPy's signatures and restrictions
    standin.py    the module `cupy` made of them, and how it is put in CuPy's place

NumPy does the arithmetic. Where CuPy 14.2 is installed (it imports without a GPU) test_standin.py
holds every signature, every loop and every refusal against it.
"""
