// The platform's data types (requirements J2, J5).
export { decodeVariant, encodeVariant, MAX_NESTING, type Variant, type VariantInput } from "./variant.js";
