/** The version of the contract that these packages speak. */
export const API_VERSION = "1.0.0";
/** The header that carries it. */
export const API_VERSION_HEADER = "x-api-version";
