# Every extern of src_c/, one section a header. Nothing else in the package declares C.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

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

cdef extern from "fc_msgpack.h" nogil:
    enum: FC_MSGPACK_SLACK

    ctypedef enum fc_msgpack_kind:
        FC_MSGPACK_NIL
        FC_MSGPACK_FALSE
        FC_MSGPACK_TRUE
        FC_MSGPACK_UINT
        FC_MSGPACK_INT
        FC_MSGPACK_FLOAT
        FC_MSGPACK_STR
        FC_MSGPACK_BIN
        FC_MSGPACK_ARRAY
        FC_MSGPACK_MAP
        FC_MSGPACK_EXT

    ctypedef struct fc_msgpack_token:
        fc_msgpack_kind kind
        uint32_t size
        uint64_t u
        int64_t i
        double f
        const uint8_t *data
        signed char ext_type

    ctypedef struct fc_msgpack_reader:
        const uint8_t *data
        uint64_t size
        uint64_t pos
        uint64_t owed

    void fc_msgpack_reader_init(fc_msgpack_reader *reader, const void *data, size_t size) noexcept
    fc_status fc_msgpack_next(fc_msgpack_reader *reader, fc_msgpack_token *token) noexcept
    int fc_msgpack_is_ascii(const uint8_t *data, size_t size) noexcept
    size_t fc_msgpack_put_nil(uint8_t *p) noexcept
    size_t fc_msgpack_put_bool(uint8_t *p, int value) noexcept
    size_t fc_msgpack_put_uint(uint8_t *p, uint64_t value) noexcept
    size_t fc_msgpack_put_int(uint8_t *p, int64_t value) noexcept
    size_t fc_msgpack_put_float(uint8_t *p, double value) noexcept
    size_t fc_msgpack_put_str(uint8_t *p, uint64_t size) noexcept
    size_t fc_msgpack_put_bin(uint8_t *p, uint64_t size) noexcept
    size_t fc_msgpack_put_array(uint8_t *p, uint64_t size) noexcept
    size_t fc_msgpack_put_map(uint8_t *p, uint64_t size) noexcept

cdef extern from "fc_name.h" nogil:
    enum:
        FC_NAME_GROUP
        FC_NAME_CHANNEL
        FC_NAME_SINGLE_READER
        FC_NAME_LIMIT
    fc_status fc_name_check(const char *name, size_t length, int kind) noexcept
    size_t fc_name_local(const char *name, size_t length) noexcept
    uint64_t fc_name_hash(const void *bytes, size_t length) noexcept

cdef extern from "fc_shard.h" nogil:
    ctypedef struct fc_shard_point:
        uint64_t at
        uint32_t shard
    ctypedef struct fc_shard_ring:
        fc_shard_point *points
        size_t count
    size_t fc_shard_points(size_t shards, size_t replicas) noexcept
    fc_status fc_shard_build(fc_shard_ring *ring, fc_shard_point *points, size_t room, const uint64_t *hashes,
                             size_t shards, size_t replicas) noexcept
    uint32_t fc_shard_find(const fc_shard_ring *ring, uint64_t hash) noexcept

cdef extern from "fc_mask.h" nogil:
    int fc_mask(uint8_t *dst, const uint8_t *src, size_t size, const uint8_t *key, uint64_t phase) noexcept

cdef extern from "fc_ws.h" nogil:
    enum:
        FC_WS_HEADER_MAX
        FC_WS_CONTROL_MAX
        FC_WS_CONTINUATION
        FC_WS_TEXT
        FC_WS_BINARY
        FC_WS_CLOSE
        FC_WS_PING
        FC_WS_PONG

    enum fc_ws_role:
        FC_WS_SERVER
        FC_WS_CLIENT

    ctypedef struct fc_ws_frame:
        uint64_t length
        uint8_t opcode
        uint8_t fin
        uint8_t rsv
        uint8_t key[4]

    ctypedef struct fc_ws_parser:
        fc_ws_frame frame
        uint64_t taken
        uint64_t message_size
        uint64_t max_message_size
        const char *reason
        uint16_t close_code
        uint8_t message_opcode
        uint8_t message_rsv

    void fc_ws_parser_init(fc_ws_parser *parser, fc_ws_role role, uint8_t rsv_allowed, uint64_t max_frame_size,
                           uint64_t max_message_size) noexcept
    fc_status fc_ws_parser_header(fc_ws_parser *parser, const uint8_t *data, size_t size, size_t *used) noexcept
    fc_status fc_ws_parser_payload(fc_ws_parser *parser, uint8_t *dst, const uint8_t *src, size_t size,
                                   size_t *used) noexcept
    int fc_ws_parser_whole(fc_ws_parser *parser, uint8_t *dst, const uint8_t *src) noexcept
    fc_status fc_ws_parser_bad_text(fc_ws_parser *parser) noexcept
    fc_status fc_ws_parser_refuse(
        fc_ws_parser *parser, fc_status status, uint16_t close_code, const char *reason
    ) noexcept
    fc_status fc_ws_parser_close(fc_ws_parser *parser, const uint8_t *body, size_t size, uint16_t *code) noexcept
    int fc_ws_close_code_valid(uint32_t code) noexcept
    size_t fc_ws_header_size(uint64_t length, int masked) noexcept
    size_t fc_ws_header_write(uint8_t *out, uint8_t first, uint64_t length, const uint8_t *key) noexcept

cdef extern from "fc_shm.h" nogil:
    enum:
        FC_SHM_VERSION
        FC_SHM_WHY
        FC_MESSAGE
        FC_GROUP
        FC_ADD
        FC_DISCARD
        FC_WIPED
        FC_AIMED

    ctypedef struct fc_shm:
        pass
    ctypedef struct fc_waiter_handle:
        pass
    ctypedef struct fc_text:
        const char *at
        size_t length
    ctypedef struct fc_taken:
        uint64_t age_ns
        uint32_t length
        uint32_t name
        uint32_t kind
        uint32_t target_length
    ctypedef struct fc_listed:
        uint64_t age_ns
        uint32_t count
        int32_t pid
        uint32_t length
        char name[108]

    ctypedef struct fc_address:
        pass
    ctypedef struct fc_shm_counts:
        uint64_t size
        uint64_t room
        uint64_t room_used
        uint64_t processes
        uint64_t waiters
        uint64_t queues
        uint64_t groups
        uint64_t members
        uint64_t marks
        uint64_t messages
        uint64_t pushed
        uint64_t taken
        uint64_t expired
        uint64_t recovered
        uint64_t reaped

    fc_status fc_shm_open(fc_shm **out, const char *dir, uint64_t size, fc_text id, char *why) noexcept
    void fc_shm_close(fc_shm *s) noexcept
    void fc_shm_abandon(fc_shm *s) noexcept
    void fc_shm_skip(fc_shm *s, uint64_t ns) noexcept
    fc_status fc_shm_address(fc_address *out, fc_text process, fc_text channel, uint32_t capacity) noexcept
    fc_status fc_shm_post(fc_shm *s, const fc_address *to, const uint8_t *payload, uint64_t length, uint32_t expiry_ms,
                          int at_once) noexcept
    fc_status fc_shm_send(fc_shm *s, fc_text channel, const uint8_t *payload, uint64_t length, uint32_t capacity,
                          uint32_t expiry_ms) noexcept
    fc_status fc_shm_send_local(fc_shm *s, fc_text process, fc_text channel, const uint8_t *payload, uint64_t length,
                                uint32_t capacity, uint32_t expiry_ms) noexcept
    fc_status fc_shm_take(fc_shm *s, const fc_text *names, uint32_t n, uint32_t start, uint32_t most, uint8_t *buffer,
                          uint64_t size, uint64_t *used, uint32_t *count) noexcept
    fc_status fc_shm_take_at_once(fc_shm *s, const fc_text *names, uint32_t n, uint32_t start, uint32_t most,
                                  uint8_t *buffer, uint64_t size, uint64_t *used, uint32_t *count) noexcept
    int fc_shm_waits(fc_shm *s) noexcept
    fc_status fc_shm_pending(fc_shm *s, fc_text channel, uint32_t *count, uint64_t *age_ns) noexcept
    fc_status fc_shm_nudge(fc_shm *s, fc_text channel) noexcept
    ctypedef struct fc_neighbour:
        uint64_t start
        int pid
    fc_status fc_shm_neighbours(fc_shm *s, fc_neighbour *out, uint32_t most, uint32_t *count) noexcept
    fc_status fc_shm_mark(fc_shm *s, fc_text channel, int full) noexcept
    fc_status fc_shm_join(fc_shm *s, fc_text group) noexcept
    fc_status fc_shm_leave(fc_shm *s, fc_text group, uint64_t seen) noexcept
    fc_status fc_shm_add(fc_shm *s, fc_text group, fc_text process, fc_text channel, uint32_t capacity) noexcept
    fc_status fc_shm_discard(fc_shm *s, fc_text group, fc_text process, fc_text channel, uint32_t capacity) noexcept
    fc_status fc_shm_add_channel(fc_shm *s, fc_text group, fc_text channel, uint32_t capacity) noexcept
    fc_status fc_shm_discard_channel(fc_shm *s, fc_text group, fc_text channel) noexcept
    ctypedef struct fc_aim:
        uint64_t head
        const fc_text *excluded
        uint32_t count

    fc_status fc_shm_publish(fc_shm *s, const fc_text *groups, uint32_t n, const fc_aim *aim, const uint8_t *payload,
                             uint64_t length, uint32_t inbox_capacity, uint32_t expiry_ms, uint64_t group_expiry_ns,
                             uint32_t *members, uint32_t *full) noexcept
    fc_status fc_shm_wipe(fc_shm *s) noexcept
    fc_status fc_shm_keep(fc_shm *s) noexcept
    fc_status fc_shm_count(fc_shm *s, fc_shm_counts *counts) noexcept
    fc_status fc_shm_list(
        fc_shm *s, int groups, uint32_t *cursor, fc_listed *out, uint32_t most, uint32_t *count) noexcept
    const char *fc_shm_check(fc_shm *s) noexcept
    fc_status fc_waiter_open(fc_waiter_handle **out, fc_shm *s) noexcept
    void fc_waiter_close(fc_waiter_handle *w, int abandon) noexcept
    int fc_waiter_fd(const fc_waiter_handle *w) noexcept
    fc_status fc_waiter_arm(fc_waiter_handle *w, const fc_text *names, uint32_t n, uint32_t *ready) noexcept
    fc_status fc_waiter_disarm(fc_waiter_handle *w) noexcept
    fc_status fc_waiter_rest(fc_waiter_handle *w) noexcept
    fc_status fc_waiter_sleeps(fc_waiter_handle *w) noexcept

cdef extern from "fc_wake.h" nogil:
    void fc_wake_drain(int fd) noexcept
    fc_status fc_wake_wait(int fd, int also, int timeout_ms) noexcept

cdef extern from "fc_http.h" nogil:
    ctypedef struct fc_http_limits:
        size_t line
        size_t header_bytes
        size_t headers

    ctypedef struct fc_http_error:
        const char *reason
        uint16_t status

    ctypedef struct fc_http_scanner:
        size_t start
        size_t first
        size_t length

    enum:
        FC_HTTP_NAME_COUNT
        FC_HTTP_HOST
        FC_HTTP_DAPHNE_ROOT_PATH
        FC_HTTP_FORM_ABSOLUTE

    ctypedef struct fc_http_field:
        uint32_t name
        uint32_t name_size
        uint32_t value
        uint32_t value_size
        uint8_t known
        uint8_t underscore

    ctypedef struct fc_http_request:
        uint64_t content_length
        uint32_t method
        uint32_t method_size
        uint32_t path
        uint32_t path_size
        uint32_t query
        uint32_t query_size
        uint32_t authority
        uint32_t authority_size
        uint32_t fields
        uint8_t form
        uint8_t minor
        uint8_t escaped
        uint8_t has_length
        uint8_t chunked
        uint8_t keep_alive
        uint8_t expect_continue
        uint8_t websocket
        uint8_t te_trailers

    ctypedef struct fc_http_chunks:
        uint64_t left

    const char *fc_http_name_text(int name) noexcept
    fc_status fc_http_scan(fc_http_scanner *scanner, const fc_http_limits *limits, const uint8_t *data, size_t size,
                           fc_http_error *error) noexcept
    fc_status fc_http_parse(fc_http_request *request, fc_http_field *fields, size_t room, const uint8_t *head,
                            size_t size, fc_http_error *error) noexcept
    fc_status fc_http_parse_line(fc_http_request *request, const uint8_t *line, size_t size,
                                 fc_http_error *error) noexcept
    fc_status fc_http_chunked(fc_http_chunks *chunks, const fc_http_limits *limits, const uint8_t *data, size_t size,
                              size_t *used, size_t *body, fc_http_error *error) noexcept
    int fc_http_is_token(const uint8_t *bytes, size_t size) noexcept
    int fc_http_is_value(const uint8_t *bytes, size_t size) noexcept
    int fc_http_same(const uint8_t *bytes, size_t size, const char *text) noexcept
