# Every extern of src_c/, one section a header. Nothing else in the package declares C.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "fc_common.h" nogil:
    ctypedef enum fc_status:
        FC_OK
        FC_NEED_DATA
        FC_ERR_NOMEM
        FC_ERR_RANGE
        FC_ERR_FORMAT
        FC_ERR_UTF8
        FC_ERR_DEPTH
        FC_ERR_FULL
        FC_ERR_CLOSED
        FC_ERR_OS
        FC_ERR_VERSION
