/** How long the path of a unix socket may be: for who listens and for who connects. */

/** Bytes of sun_path without its terminator. */
export const SOCKET_PATH_BYTES_MAX = 107;
